"""How fast the page reads a camera: `python -m fer_pipeline_tests.service.page_speed`.

The service runs in a process of its own, the browser draws without a graphics card, and its camera
shows one drawn face of 640 x 480 pixels thirty times a second.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from fer_pipeline_tests.browser import DESKTOP, chromium
from fer_pipeline_tests.service.moving import drawn, write_camera
from fer_pipeline_tests.service.process import serving

_PAUSE = 500


def measured(seconds: float) -> list[tuple[float, float]]:
    """Frames a second and milliseconds from frame to answer, as the page tells them."""
    with tempfile.TemporaryDirectory() as folder, serving() as service:
        camera = write_camera(Path(folder) / "camera.mjpeg", [drawn("Happiness")])
        with chromium(
            "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"
        ) as browser:
            context = browser.new_context(viewport=DESKTOP, permissions=["camera"])
            page = context.new_page()
            page.goto(f"http://localhost:{service.client.port}/")
            page.get_by_role("button", name="Start the camera").click()
            page.locator(".fps").wait_for()
            found = []
            for _ in range(round(1000 * seconds / _PAUSE)):
                page.wait_for_timeout(_PAUSE)
                texts = [page.locator(name).inner_text() for name in (".fps", ".latency")]
                found.append((float(texts[0]), float(texts[1])))
            context.close()
            return found


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    found = measured(parser.parse_args().seconds)
    fps, latency = (statistics.median(values) for values in zip(*found, strict=True))
    load = os.getloadavg()[0]
    print(f"{fps:.0f} frames a second, {latency:.0f} ms from frame to answer (load {load:.1f})")  # noqa: T201


if __name__ == "__main__":
    main()
