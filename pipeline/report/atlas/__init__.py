"""The layer atlas: accuracy and cost of each block of a backbone on a data set, and where to cut."""
