"""A whole training step as one CUDA graph: the host says "go" once instead of launching hundreds of
small kernels.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import torch

WARM_UP = (
    3  # runs before the capture: libraries choose their algorithms, the optimiser makes its state
)


class Captured:
    """A function of tensors, run as a CUDA graph after its first call.

    All calls have inputs of the same shapes, and what the function returns lies in the same memory
    each time. The warm-up changes nothing: what the function changes is put back.

    Args: function of tensors (None allowed) that returns tensors; state: a function without
        arguments that lists all tensors that `function` changes; those that only come to be in the
        warm-up are set to 0.
    """

    def __init__(self, function, state):
        self.function = function
        self.state = state
        self.graph = None

    def __call__(self, *inputs):
        if self.graph is None:
            self._capture(inputs)
        for here, new in zip(self.inputs, inputs, strict=True):
            if here is not None:
                here.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.outputs

    def _capture(self, inputs):
        self.inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        before = {tensor.data_ptr(): tensor.detach().clone() for tensor in self.state()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self.function(*self.inputs)
        with torch.no_grad():
            for tensor in self.state():
                tensor.copy_(before.get(tensor.data_ptr(), torch.zeros((), device=tensor.device)))
