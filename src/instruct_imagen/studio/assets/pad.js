// A pad for drawing a mask (white on black) or a sketch (dark on paper), by pointer or by keyboard. What is drawn
// becomes a reference of the board ("studio:add").

const LONGEST = 512;
const PAPER = "#ffffff";
const INK = "#303030";
const root = element.querySelector(".pad");
root.innerHTML = `
  <div class="tools" role="toolbar" aria-label="Drawing tools">
    <label>Draw <select class="mode"><option value="mask">a mask</option><option value="sketch">a sketch</option></select></label>
    <label>over <select class="ground"><option value="">nothing</option></select></label>
    <label>Pen <input class="size" type="range" min="2" max="80" value="36" aria-label="Width of the pen"></label>
    <button type="button" class="erase" aria-pressed="false">Eraser</button>
    <button type="button" class="undo">Undo</button>
    <button type="button" class="clear">Clear</button>
  </div>
  <div class="sheet">
    <img class="under" alt="">
    <canvas tabindex="0" role="img" aria-label="Drawing pad. Arrow keys move the pen, with Shift further; Space puts it down and lifts it; U takes the last stroke back."></canvas>
    <span class="pen" aria-hidden="true"></span>
  </div>
  <button type="button" class="done">Use as a reference</button>
  <p class="notice" role="alert"></p>`;
const find = (name) => root.querySelector(`.${name}`);
const canvas = root.querySelector("canvas");
const [mode, ground, size, under, pen] = ["mode", "ground", "size", "under", "pen"].map(find);
let strokes = [];
let stroke = null;
let erasing = false;
let place = { x: LONGEST / 2, y: LONGEST / 2 };
let down = false;

// ---- strokes -----------------------------------------------------------------------------------------------------

function paint(context, colour) {
  context.lineCap = context.lineJoin = "round";
  for (const { points, width, erase } of strokes) {
    context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(points[0].x, points[0].y);
    for (const point of points) context.lineTo(point.x, point.y);
    if (points.length === 1) context.lineTo(points[0].x + 0.01, points[0].y);
    context.stroke();
  }
}

function draw() {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, canvas.width, canvas.height);
  paint(context, mode.value === "mask" ? "#ffffff" : INK);
  const scale = canvas.clientWidth / canvas.width || 1;
  const width = Number(size.value) * scale;
  Object.assign(pen.style, {
    left: `${place.x * scale}px`, top: `${place.y * scale}px`, width: `${width}px`, height: `${width}px`,
  });
  pen.classList.toggle("down", down);
}

function begin(point) {
  stroke = { points: [point], width: Number(size.value), erase: erasing };
  strokes.push(stroke);
  place = point;
  find("notice").textContent = "";
  draw();
}

function extend(point) {
  place = point;
  stroke?.points.push(point);
  draw();
}

function resize(width, height) {
  const scale = LONGEST / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  place = { x: canvas.width / 2, y: canvas.height / 2 };
  draw();
}

function restyle() {
  root.dataset.mode = mode.value;
  size.value = mode.value === "mask" ? 36 : 6;
  draw();
}

// ---- pointer and keys --------------------------------------------------------------------------------------------

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return { x: ((event.clientX - box.left) / box.width) * canvas.width, y: ((event.clientY - box.top) / box.height) * canvas.height };
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  begin(pointOf(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (event.buttons) extend(pointOf(event));
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { stroke = null; down = false; draw(); });

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (STEPS[event.key]) {
    const by = event.shiftKey ? 32 : 8;
    const [x, y] = STEPS[event.key].map((step) => step * by);
    extend({
      x: Math.min(canvas.width, Math.max(0, place.x + x)),
      y: Math.min(canvas.height, Math.max(0, place.y + y)),
    });
  } else if (event.key === " ") {
    down = !down;
    if (down) begin(place);
    else stroke = null;
    draw();
  } else if (event.key.toLowerCase() === "u") {
    undo();
  } else {
    return;
  }
  event.preventDefault();
});

function undo() {
  strokes.pop();
  stroke = null;
  down = false;
  draw();
}

find("undo").addEventListener("click", undo);
find("clear").addEventListener("click", () => { strokes = []; undo(); });
find("erase").addEventListener("click", (event) => {
  erasing = !erasing;
  event.currentTarget.setAttribute("aria-pressed", String(erasing));
});
size.addEventListener("input", draw);
mode.addEventListener("change", restyle);

// ---- what it lies on, and where it goes --------------------------------------------------------------------------

document.addEventListener("studio:board", (event) => {
  const names = event.detail;
  const chosen = ground.value;
  const options = names.map((name, index) => new Option(`[ref#${index + 1}]`, name));
  ground.replaceChildren(new Option("nothing", ""), ...options);
  ground.value = names.includes(chosen) ? chosen : "";
  if (ground.value !== chosen) lay();
});

function lay() {
  if (ground.value) {
    under.onload = () => resize(under.naturalWidth, under.naturalHeight);
    under.src = `pictures/${ground.value}.png`;
  } else {
    under.removeAttribute("src");
    resize(1, 1);
  }
}
ground.addEventListener("change", lay);

find("done").addEventListener("click", () => {
  if (!strokes.some((one) => !one.erase)) {
    find("notice").textContent = "Draw something first.";
    return;
  }
  const masking = mode.value === "mask";
  const layer = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  paint(layer.getContext("2d"), masking ? "#ffffff" : INK);
  const sheet = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = sheet.getContext("2d");
  context.fillStyle = masking ? "#000000" : PAPER;
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.drawImage(layer, 0, 0);
  sheet.toBlob((blob) => {
    const file = new File([blob], `${mode.value}.png`, { type: "image/png" });
    document.dispatchEvent(new CustomEvent("studio:add", { detail: { file, text: mode.value } }));
  });
});

new ResizeObserver(draw).observe(canvas);
resize(1, 1);
restyle();
document.dispatchEvent(new CustomEvent("studio:who"));
