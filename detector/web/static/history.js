// Undo and redo of the labels of images.

const MAX_CHANGES = 500;

export class History {
  constructor() {
    this.past = [];
    this.future = [];
  }

  // `before` and `after` are the labels of an image, which are never changed in place
  add(image, before, after) {
    this.past.push({ image, before, after });
    if (this.past.length > MAX_CHANGES) this.past.shift();
    this.future = [];
  }

  // {image, labels} to show again; null for nothing to undo
  undo() {
    const change = this.past.pop();
    if (!change) return null;
    this.future.push(change);
    return { image: change.image, labels: change.before };
  }

  redo() {
    const change = this.future.pop();
    if (!change) return null;
    this.past.push(change);
    return { image: change.image, labels: change.after };
  }
}
