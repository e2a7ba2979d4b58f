"""Nothing yet: the calibration of joints and cameras will live here."""
