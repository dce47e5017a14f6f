// Colors of classes, the same as in the images of spp detect, and of attributions for and against.

// M. Okabe and K. Ito, Color Universal Design (2008): distinct with every common kind of color vision.
const PALETTE = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
];
const FOR = [224, 106, 20];
const AGAINST = [44, 116, 196];

export function classColor(label) {
  if (label < PALETTE.length) return PALETTE[label];
  // Steps of the golden ratio put every new hue into the largest gap between the earlier ones.
  const [saturation, value] = [[0.85, 0.95], [0.5, 1], [0.9, 0.65]][label % 3];
  return fromHsv((label * 0.618033988749895) % 1, saturation, value);
}

function fromHsv(hue, saturation, value) {
  const channel = (n) => {
    const k = (n + hue * 6) % 6;
    return Math.round(255 * (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

// Black or white, whichever can be read on a color.
export function contrast([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 127 ? "#000" : "#fff";
}

// The color of an attribution of -1 (against) to 1 (for); small ones are faint.
export function attributionColor(value, strongest = 0.85) {
  return css(value < 0 ? AGAINST : FOR, Math.min(1, Math.abs(value)) * strongest);
}

// Paint a heat map of the API, {width, height, data}, on a canvas of its size.
export function paintHeat(canvas, heat) {
  canvas.width = heat.width;
  canvas.height = heat.height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(heat.width, heat.height);
  const values = new Int8Array(Uint8Array.from(atob(heat.data), (character) => character.charCodeAt(0)).buffer);
  values.forEach((value, i) => {
    pixels.data.set(value < 0 ? AGAINST : FOR, 4 * i);
    pixels.data[4 * i + 3] = Math.round(220 * (Math.abs(value) / 127) ** 0.75);
  });
  context.putImageData(pixels, 0, 0);
}
