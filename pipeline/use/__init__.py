"""Finished runs put to use: whole networks, answers for pictures, exports."""
