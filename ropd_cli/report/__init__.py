"""What is shown of a run to a person: groups in the terminal and as HTML."""
