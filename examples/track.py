"""Follow objects through a film, with ByteTrack of the package trackers.

python examples/track.py film.mp4
"""

import sys

from trackers import ByteTrackTracker

import detector
from detector.images.film import Sampling, open_film


def main(source: str) -> None:
    model = detector.load()
    with open_film(source) as film:
        # probabilities are calibrated: from a half on, a box begins a track; unlikelier ones continue it
        tracker = ByteTrackTracker(frame_rate=film.fps, track_activation_threshold=0.5, high_conf_det_threshold=0.3)
        for frame in film.frames(Sampling()):
            found = model.detect(frame.image, min_probability=0.1)
            tracks = tracker.update(found.to_supervision())
            for track, name, box in zip(tracks.tracker_id, tracks.data["class_name"], tracks.xyxy, strict=True):
                if track >= 0:
                    print(f"{frame.seconds:.2f} s: {name} {track} at {' '.join(f'{corner:.0f}' for corner in box)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
