"""TaskVine's own names, which have no types, for type checkers; never imported."""
# isort: skip_file

from ndcctools.taskvine import (
    DaskVine as DaskVine, DaskVineDag as DaskVineDag, DaskVineWarning as DaskVineWarning,
    File as File, FunctionCall as FunctionCall, FutureFunctionCall as FutureFunctionCall,
    FuturePythonTask as FuturePythonTask, FuturesExecutor as FuturesExecutor,
    LibraryTask as LibraryTask, PythonTask as PythonTask,
    PythonTaskNoResult as PythonTaskNoResult, Task as Task, VineFuture as VineFuture,
)  # fmt: skip
