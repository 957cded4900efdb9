const find = (id) => document.getElementById(id);
const [form, prompt, seed, live, doing, status, progress, results] =
  ["form", "prompt", "seed", "live", "doing", "status", "progress", "results"].map(find);
const [acceleration, guidance, negative, acts] = ["acceleration", "guidance", "negative", "acts"].map(find);
const make = (tag, parent, text = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
};
const chosen = (name) => [...form.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value);
const inWords = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
// The status is read aloud, so it says how a request ends, and that it begins only where one was
// asked for: what is painted as one types would drown the typing.
const say = (text, isWrong = false) => {
  doing.textContent = "";
  status.textContent = text;
  status.classList.toggle("wrong", isWrong);
};
const showOnly = (text) => {
  if (status.textContent) say("");
  doing.textContent = text;
};

// Of a distilled painter the guidance is as chosen; others have their own.
const guidanceOf = ({ guidance: own, is_distilled }) => (is_distilled ? Number(guidance.value) : own);
const about = (painter) => {
  const chosenOne = painter.is_distilled && guidanceOf(painter) > 1;
  const guided = chosenOne ? `guidance ${guidanceOf(painter)}, two evaluations a step` : "";
  return [painter.about, guided].filter(Boolean).join(", ");
};

// What the dials say, and whom the negative prompt reaches.
const tellOptions = () => {
  for (const dial of form.querySelectorAll(".dial input")) dial.nextElementSibling.textContent = dial.value;
  const reached = painters.filter((one) => chosen("painter").includes(one.name) && guidanceOf(one) > 1);
  const names = reached.map(({ title }) => title).join(", ");
  acts.textContent = `Acts above guidance 1 only: here on ${names || "nobody"}.`;
};

// The pictures of the present request, in the order in which the server paints them.
let slots = [];
let heads = [];
let shape = "";
let running = null;

const wish = () => ({
  prompt: prompt.value,
  painters: chosen("painter"),
  steps: chosen("steps").map(Number),
  seed: Number(seed.value),
  negative: negative.value,
  guidance: Number(guidance.value),
  acceleration: Number(acceleration.value),
  styles: Object.fromEntries([...form.querySelectorAll("[data-style]")].map((dial) => [dial.dataset.style, Number(dial.value)])),
});

const stepsOf = ({ steps: own, most }, steps) => (own === null ? steps.filter((count) => count <= most) : [own]);

// Old pictures stay, dimmed, until the new ones come: nothing jumps while one types.
const layOut = (wanted) => {
  const wantedShape = JSON.stringify([wanted.painters, wanted.steps]);
  if (wantedShape !== shape) {
    shape = wantedShape;
    results.replaceChildren();
    heads = [];
    const shown = wanted.painters.map((name) => painters.find((painter) => painter.name === name));
    slots = shown.flatMap((painter) => {
      const row = make("section", results);
      row.className = "row";
      const head = make("div", row);
      const title = make("h2", head, painter.title);
      title.style.borderColor = painter.colour;
      heads.push({ painter, words: make("p", head) });
      const tiles = make("div", row);
      tiles.className = "tiles";
      return stepsOf(painter, wanted.steps).map((steps) => {
        const figure = make("figure", tiles);
        make("div", figure).className = "frame";
        const caption = make("figcaption", figure);
        const title = `${steps} step${steps === 1 ? "" : "s"}`;
        make("b", caption, title);
        return { figure, time: make("span", caption), title: `${painter.title}, ${title}` };
      });
    });
  }
  heads.forEach(({ painter, words }) => (words.textContent = about(painter)));
  slots.forEach(({ figure, time }) => {
    figure.classList.add("awaited");
    time.textContent = "";
  });
  mark(0);
};

const mark = (number) => slots.forEach(({ figure }, i) => figure.classList.toggle("next", i === number));

const show = ({ number, ms, png }, words) => {
  const { figure, time, title } = slots[number];
  const image = new Image();
  image.alt = `${title}: ${words}`;
  image.src = `data:image/png;base64,${png}`;
  figure.querySelector(".frame").replaceChildren(image);
  figure.classList.remove("awaited");
  time.textContent = inWords(ms);
  progress.value = number + 1;
  mark(number + 1);
};

// Each line of the answer is an event.
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part; !(part = await reader.read()).done; ) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

const follow = async (answer, wanted) => {
  for await (const event of events(answer)) {
    if (event.event === "waiting") showOnly(`Waiting for ${event.before} other request${event.before === 1 ? "" : "s"}`);
    if (event.event === "picture") {
      if (doing.textContent) showOnly("Painting"); // the waiting is over
      show(event, wanted.prompt);
    }
    if (event.event === "error") throw new Error(event.says);
    if (event.event === "done") return;
  }
  throw new Error("The server ended before all was painted.");
};

const ask = async (wanted, signal) => {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(wanted);
  const answer = await fetch("paint", { method: "POST", headers, body, signal }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("No answer. Is lcm-lora demo still running?");
  });
  if (!answer.ok) throw new Error((await answer.json()).says);
  return answer;
};

const stop = () => running?.abort();

const rest = () => {
  running = null;
  progress.hidden = true;
  mark(-1);
};

const paint = async (isAskedFor = true) => {
  stop();
  rest(); // whatever was painted, also where nothing takes its place
  const wanted = wish();
  if (!wanted.painters.length) return say("Nobody is chosen to paint.", true);
  if (!wanted.prompt.trim() || !seed.checkValidity()) return say("");
  const own = (running = new AbortController());
  const started = performance.now();
  layOut(wanted);
  progress.max = slots.length;
  progress.value = 0;
  progress.hidden = false;
  (isAskedFor ? say : showOnly)("Painting");
  try {
    await follow(await ask(wanted, own.signal), wanted);
    if (running !== own) return; // a newer request took its place
    const count = slots.length === 1 ? "1 picture" : `${slots.length} pictures`;
    say(`${count} in ${inWords(performance.now() - started)}, all from noise ${wanted.seed}`);
  } catch (error) {
    if (running !== own) return;
    say(error.name === "AbortError" ? "Stopped" : error.message, error.name !== "AbortError");
  }
  if (running === own) rest();
};

let pause;
const later = (ms) => {
  clearTimeout(pause);
  if (live.checked) pause = setTimeout(paint, ms, false);
};
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(pause);
  paint();
});
const PAUSES = { checkbox: 0, range: 60 };
form.addEventListener("input", ({ target }) => {
  tellOptions();
  later(PAUSES[target.type] ?? 250);
});
form.addEventListener("click", ({ target }) => {
  if (!target.matches("[data-example]")) return;
  prompt.value = target.textContent;
  paint();
});
find("fresh").addEventListener("click", () => {
  seed.value = Math.floor(Math.random() * 1e6);
  paint();
});
addEventListener("keydown", ({ key }) => {
  if (key === "Escape") stop();
});
tellOptions();
if (live.checked) paint(false);
