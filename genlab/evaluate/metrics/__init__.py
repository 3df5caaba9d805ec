"""How good samples and reconstructions are, in metrics: functions on features, and what takes features from images.

Everything here is a function of arrays and knows neither runs nor models. Features are float arrays [N, F], one row
an image; larger counts never cost memory that grows with their square.
"""
