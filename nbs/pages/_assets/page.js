// What a page does before Voila's scripts are there. It is a file of its own: the server's policy runs no script that stands in a page.
"use strict";
const told = () => JSON.parse(document.querySelector("script#jupyter-config-data").textContent);
// The page says goodbye, and takes its kernel along.
addEventListener("pagehide", () => { const { baseUrl, kernelId } = told(); navigator.sendBeacon(`${baseUrl}voila/api/shutdown/${kernelId}`); });
// Back from the browser's cache: its kernel is gone.
addEventListener("pageshow", (event) => event.persisted && location.reload());
// Voila's scripts call these while cells run, and the cells of this page are there already.
for (const name of ["voila_heartbeat", "update_loading_text", "display_cells", "voila_process", "voila_finish"]) window[name] = () => {};
