"""The data folder as a whole: what is there, whether it is intact, what can go, what is still to do."""
