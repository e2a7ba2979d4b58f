"""Where joints, cameras and board truly are: measured, judged by errors that were not fitted, written down."""
