"""The DICOM objects that the node writes."""
