// What a page can only do itself: keys, files, and noticing that the server has gone. Everything else is the server's.
(() => {
  const lostText = {
    gone: "The connection to the server is lost. Your work is kept there; this page goes on as soon as it answers.",
    elsewhere: "This study is now open in another tab or browser. Nothing is lost.",
  };
  const number = Math.random().toString(36).slice(2);
  let lost = null;
  let over = "";

  function tell(kind) {
    if (!lost) {
      lost = document.createElement("div");
      lost.className = "promise-lost";
      lost.setAttribute("role", "alertdialog");
      document.body.appendChild(lost);
    }
    lost.innerHTML = "<div><p></p></div>";
    lost.querySelector("p").textContent = lostText[kind];
    if (kind === "elsewhere") {
      const button = document.createElement("button");
      button.textContent = "Use it here";
      button.onclick = () => location.reload();
      lost.firstChild.appendChild(button);
    }
    lost.classList.add("shown");
  }

  // Signs of life

  function listen() {
    const source = new EventSource(`alive?page=${number}`);
    source.onerror = () => {
      source.close();
      tell("gone");
      wait();
    };
    source.addEventListener("elsewhere", () => {
      source.close();
      tell("elsewhere");
    });
  }

  async function wait() {
    for (;;) {
      await new Promise((done) => setTimeout(done, 1500));
      try {
        const answer = await fetch("index.html", { cache: "no-store" });
        if (answer.status === 409) return tell("elsewhere");
        if (answer.ok) return location.reload();
      } catch (error) {
        continue; // not yet
      }
    }
  }

  // Keys click buttons, so that what cannot be clicked cannot be pressed

  document.addEventListener("pointermove", (event) => {
    const area = event.target.closest && event.target.closest("[data-view]");
    over = area ? area.dataset.view : "";
  });

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, select, [role=dialog], input:not([type=range]):not([type=checkbox])");
    if (typing && event.key !== "Escape") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.key === "Delete" || event.key === "Backspace") && over) {
      event.preventDefault();
      window.trame.trigger("do", ["deletePointed", over]);
      return;
    }
    const arrow = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[event.key];
    if (arrow && over && !event.target.matches("input")) {
      event.preventDefault();
      window.trame.trigger("do", ["turn", over, arrow]);
      return;
    }
    const name = (event.shiftKey ? "Shift+" : "") + (event.key.length === 1 ? event.key.toUpperCase() : event.key);
    const plain = event.key === "?" ? "?" : name;
    const button = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === plain);
    if (button && !button.disabled) {
      event.preventDefault();
      button.click();
    }
  });

  // Files

  function send(file) {
    const request = new XMLHttpRequest();
    request.open("POST", "upload");
    request.setRequestHeader("X-Name", encodeURIComponent(file.name));
    request.upload.onprogress = (event) => {
      window.trame.state.set("uploading", Math.round((100 * event.loaded) / event.total));
    };
    request.onloadend = () => window.trame.state.set("uploading", -1);
    request.send(file);
  }

  async function save(name) {
    const answer = await fetch(`save/${name}`);
    if (!answer.ok) return; // the server has said why
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1];
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-save], [data-open]");
    if (!button || button.disabled) return;
    if (button.dataset.save) save(button.dataset.save);
    else document.getElementById("promise-file").click();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id !== "promise-file" || !event.target.files.length) return;
    send(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });

  function follow() {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const stored = sessionStorage.getItem("promise-theme");
    window.trame.state.set("theme", stored || (dark.matches ? "dark" : "light"));
  }
  const ready = setInterval(() => {
    if (!window.trame || !window.trame.state) return;
    clearInterval(ready);
    follow();
    listen();
  }, 50);
})();
