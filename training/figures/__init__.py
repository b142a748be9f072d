"""What answers are worth: figures with intervals, curves, subgroups, differences. Knows no films and no networks."""
