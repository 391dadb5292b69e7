document.addEventListener("input", (event) => {
  if (event.target.matches(".pair input")) {
    event.target.parentNode.style.setProperty("--at", event.target.value + "%");
  }
});
