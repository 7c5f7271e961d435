// Zoom and pan, by wheel, drag, buttons and keys.

const SCALE = { min: 0.15, max: 2.5 };

export class Viewport {
  scale = 1;
  x = 0;
  y = 0;
  isOwn = false;

  /** `onScale` is called when it may have changed. */
  constructor(picture, stage, onScale) {
    this.picture = picture;
    this.stage = stage;
    this.onScale = onScale;
    picture.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = picture.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    picture.addEventListener("pointerdown", (event) => this.drag(event));
    picture.addEventListener("keydown", (event) => this.key(event));
  }

  draw() {
    this.stage.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${this.scale})`);
    this.onScale();
  }

  zoom(factor, x = this.picture.clientWidth / 2, y = this.picture.clientHeight / 2) {
    const scale = Math.min(SCALE.max, Math.max(SCALE.min, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.isOwn = true;
    this.draw();
  }

  /** What it shows at once, in pixels. */
  room() {
    return { width: this.picture.clientWidth, height: this.picture.clientHeight };
  }

  /** Shows all of it, unless somebody looks at a part. */
  fit(width, height, isForced) {
    const [wide, high] = [this.picture.clientWidth, this.picture.clientHeight];
    if ((this.isOwn && !isForced) || width <= 0 || wide <= 0) return;
    const margin = 40;
    this.scale = Math.min(1.15, (wide - margin) / width, (high - margin - 24) / height);
    this.scale = Math.max(SCALE.min, this.scale);
    this.x = (wide - width * this.scale) / 2;
    this.y = (high + 16 - height * this.scale) / 2;
    this.isOwn = false;
    this.draw();
  }

  drag(down) {
    if (down.button !== 0 || down.target.closest("[data-grip]")) return;
    const [x, y] = [down.clientX - this.x, down.clientY - this.y];
    const move = (event) => {
      this.x = event.clientX - x;
      this.y = event.clientY - y;
      this.isOwn = true;
      this.draw();
    };
    follow(this.picture, down, move);
  }

  key(event) {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const move = moves[event.key];
    if (move) {
      this.x += move[0];
      this.y += move[1];
      this.isOwn = true;
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.2);
    else if (event.key === "-") this.zoom(1 / 1.2);
    else return;
    event.preventDefault();
  }
}

/** Follows a pointer from a press to its release; `done` hears whether it moved. */
export function follow(element, down, move, done = () => {}) {
  let hasMoved = false;
  const onMove = (event) => {
    hasMoved ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 4;
    if (hasMoved) move(event);
  };
  const onUp = () => {
    window.removeEventListener("pointermove", onMove);
    window.removeEventListener("pointerup", onUp);
    element.classList.remove("dragged");
    done(hasMoved);
  };
  element.classList.add("dragged");
  window.addEventListener("pointermove", onMove);
  window.addEventListener("pointerup", onUp);
}
