"""All numerical work of Headstart; knows no Luigi, prints nothing, is told every path."""

__version__ = "0.1.0"
