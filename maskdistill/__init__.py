"""MaskDistill: unlabelled photographs in; object masks, categories and a segmentation model out."""

import os

# OpenCV's thread pool does not survive a fork: a data loading process would wait for it for ever.
# Parallelism is by process here, so OpenCV gets one thread and never makes a pool.
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

__version__ = "0.1.0"
