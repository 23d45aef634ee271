// What stands here in place of a bundle of React and the application: a router of some lines, and a part that is loaded
// when it is needed. Its name holds a hash of its content, and so does that of the part.
const root = document.querySelector("#root");
const routes = [
  { pattern: /^\/$/, draw: async () => "All notes" },
  { pattern: /^\/notes\/(\w+)$/, draw: async ([, number]) => (await import("/assets/note-CnQ81vRe.js")).text(number) },
];

// Draws what belongs to the path that the browser shows.
async function draw() {
  const path = location.pathname;
  for (const route of routes) {
    const found = path.match(route.pattern);
    if (found === null) continue;
    root.textContent = await route.draw(found);
    root.dataset.path = path + location.search;
    return;
  }
  root.textContent = "There is no such page";
  root.dataset.path = path + location.search;
}

// A link of the application changes the path, and asks the server for nothing.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link === null || link.origin !== location.origin) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  draw();
});
addEventListener("popstate", draw);
draw();
