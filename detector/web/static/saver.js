// Saves labels one after the other, the newest of each image; what the server did not take is tried again.

import { saveLabels } from "./teach_api.js";

const DELAY = 150; // milliseconds, in which keys that are held down are one change
const RETRY = 2000;

export class Saver {
  // `events` are {saved(answer), failed(error), status(line)}
  constructor(events) {
    this.events = events;
    this.waiting = new Map();
    this.timer = null;
    this.running = null;
  }

  put(image, labels) {
    this.waiting.set(image, labels);
    this.events.status("Saving …");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), DELAY);
  }

  // Save all that waits; the promise is kept when it is done or has failed.
  flush() {
    clearTimeout(this.timer);
    this.running ??= this.run().finally(() => { this.running = null; });
    return this.running;
  }

  async run() {
    while (this.waiting.size) {
      const [image, labels] = this.waiting.entries().next().value;
      this.waiting.delete(image);
      try {
        this.events.saved(await saveLabels(image, labels));
      } catch (error) {
        // newer labels of the image come first
        if (!this.waiting.has(image)) this.waiting.set(image, labels);
        this.events.status("Not saved");
        this.events.failed(error);
        this.timer = setTimeout(() => this.flush(), RETRY);
        return;
      }
    }
    this.events.status("Saved");
  }
}
