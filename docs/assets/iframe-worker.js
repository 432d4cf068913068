// Browsers start no web worker from a page that was opened from disk, so the search would stay silent. There, run the
// script of the worker in a hidden frame instead, and pass messages between page and frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.waiting = []
      document.body.appendChild(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => {
        this.dispatchEvent(new MessageEvent("message", { data }))
      }
      inside.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => this.load(each, url)), Promise.resolve())
      this.load(url, location.href).then(() => {
        for (const data of this.waiting) this.deliver(data)
        this.waiting = null
      })
    }

    load(url, base) {
      return new Promise((resolve, reject) => {
        const script = this.frame.contentDocument.createElement("script")
        script.src = new URL(url, new URL(base, location.href)).href
        script.onload = resolve
        script.onerror = reject
        this.frame.contentDocument.body.appendChild(script)
      })
    }

    deliver(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.deliver(data)
    }

    terminate() {
      this.frame.remove()
    }

    set onmessage(handler) {
      this.addEventListener("message", handler)
    }
  }
}
