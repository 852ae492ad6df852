"""What another policy would have cost and lost, from the decision log alone. Start at `replay`, read in `log`."""
