"""What routing really spent and saved, from the decision log and its outcomes. Start at `savings`."""
