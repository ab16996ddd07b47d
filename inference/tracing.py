"""The lock under which NumPyro models are traced.

NumPyro keeps its effect handlers on one global stack, so that two threads tracing models at the
same time would see each other's handlers. Whatever traces a model holds this lock; compiled
programs run outside it.
"""

import threading

TRACE_LOCK = threading.RLock()
