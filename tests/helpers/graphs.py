"""What stands for CUDA graphs where there is no GPU.

As a CUDA graph does, a replay reads the tensors that were there at the recording, whatever they hold by then, and
overwrites the tensors that the recording gave.
"""


class Recorded:
    """Records and replays on the CPU, and counts."""

    def __init__(self, *, error=None):
        self.calls, self.error = [], error

    def warm_up(self, function):
        self.calls.append("warm up")
        function()

    def record(self, function):
        self.calls.append("record")
        if self.error:
            raise self.error
        outputs = function()

        def replay():
            self.calls.append("replay")
            for own, value in zip(outputs, function(), strict=True):
                if own is not None:
                    own.copy_(value)

        return replay, outputs
