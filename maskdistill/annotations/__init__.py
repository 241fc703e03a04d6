"""Pseudo-annotations for the detector: COCO records, the index that training reads, names of categories."""
