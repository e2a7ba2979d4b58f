"""Calibration of joints and cameras."""
