"""SHIM by the lead so that imports work; helper "rewards" replaces this file as a whole."""


def brought_rubric(prompt):
    return None


def merged(brought, induced):
    return brought
