"use strict";
// Draws each figure when it comes into view, and all of them for print.
(() => {
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const draw = (div) => {
    if (div.dataset.drawn) return;
    div.dataset.drawn = "yes";
    const figure = JSON.parse(document.getElementById(div.dataset.figure).textContent);
    Plotly.newPlot(div, figure.data, figure.layout, config);
  };
  const divs = document.querySelectorAll("div.plot");
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watch.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "400px" });
  divs.forEach((div) => watch.observe(div));
  window.addEventListener("beforeprint", () => divs.forEach(draw));
})();
