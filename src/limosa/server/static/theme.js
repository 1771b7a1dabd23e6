// Before the first paint, so that a chosen theme does not flash.
try {
  const chosen = localStorage.getItem("limosa.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that stores nothing shows the colours of the system.
}
