from collections.abc import Sequence

INTERFACE: int

class Launches:
    def __init__(
        self,
        library: str,
        context: int,
        memory: bytes,
        pointers: int,
        offsets: list[int],
        starts: Sequence[tuple[int, int, int, int, int, int, int, int]],
        /,
    ) -> None: ...
    def launch(self, stream: int, pointers: Sequence[int], ask: bool, /) -> tuple[int, int]: ...
