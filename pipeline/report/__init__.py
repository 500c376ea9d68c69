"""Tables, plots and pages made from stored results."""
