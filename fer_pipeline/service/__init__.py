"""The model over HTTP: pictures in, faces and expressions out.

What is seen in a picture is decided in `core/recogniser.py`; here is how it is asked for, by whom,
and how much at once.
"""
