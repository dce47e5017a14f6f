"""Follow objects through a film, with a tracker of the package supervision.

python examples/track.py film.mp4
"""

import sys

import supervision as sv

import detector
from detector.images.film import Sampling, open_film


def main(source: str) -> None:
    model = detector.load()
    with open_film(source) as film:
        tracker = sv.ByteTrack(frame_rate=round(film.fps))
        for frame in film.frames(Sampling()):
            found = model.detect(frame.image, min_probability=0.1).to_supervision()
            tracks = tracker.update_with_detections(found)
            for track, name, box in zip(tracks.tracker_id, tracks.data["class_name"], tracks.xyxy, strict=True):
                print(f"{frame.seconds:.2f} s: {name} {track} at {' '.join(f'{corner:.0f}' for corner in box)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
