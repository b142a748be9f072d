"""DICOM on the wire. Knows no rows, no spool and no models."""
