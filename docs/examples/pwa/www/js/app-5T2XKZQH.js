await navigator.serviceWorker.register("/js/sw.js", { scope: "/" });
document.documentElement.dataset.worker = (await navigator.serviceWorker.ready).scope;
