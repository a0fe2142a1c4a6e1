"""What the process that steps are forked from loads besides, when one of them trains or scores.

Naming this module to Dagster's multiprocess executor takes two to three seconds off each of those
steps, and costs them once. All of it but MLflow comes with Keras; TensorFlow stays out, since its
threads would not survive the fork.
"""

import matplotlib.pyplot
import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import scipy.stats
import sklearn.linear_model

__all__ = ["matplotlib", "mlflow", "scipy", "sklearn"]
