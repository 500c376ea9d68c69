"""The layer atlas: what each block of a backbone knows of a data set, what it costs, and where to cut."""
