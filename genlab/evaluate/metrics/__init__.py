"""Metrics of samples and reconstructions, as functions of arrays.

Nothing here knows about runs or models. Features are float arrays [N, F], one row per image. Memory never grows with the
square of the number of images.
"""
