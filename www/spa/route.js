"use strict";

// The page is the same for every path; what it shows is drawn here.
const show = () => { document.getElementById("route").textContent = location.pathname; };

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="/spa/"]');
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  show();
});
addEventListener("popstate", show);
show();
