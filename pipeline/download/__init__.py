"""Download files from mirrors and read them safely, without trusting their content."""
