"""Examples for training and evaluation: the record, instruction templates, and the glyph world as a source."""
