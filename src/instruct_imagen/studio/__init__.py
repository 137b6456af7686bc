"""The studio: a web page on which instructions are written, pictures dropped and drawings watched."""
