"""Training: stock verl in a process of its own, rewarded group by group."""
