// Keeps what the app begins with. A page is asked for on the network first; without one there is offline.html.
const CACHE = "notes-1";
const KEPT = ["/offline.html", "/js/app-5T2XKZQH.js", "/app.webmanifest"];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(KEPT)).then(() => skipWaiting()));
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const kept = () => caches.match(event.request.mode === "navigate" ? "/offline.html" : event.request);
  event.respondWith(fetch(event.request).catch(kept));
});
