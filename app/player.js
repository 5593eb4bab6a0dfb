// Spectrogram with a cursor, player, and the events that it can be played from.
const PIXELS_PER_SECOND = 6 // at least: what is longer than the page is scrolled

export default function ({ data, parentElement }) {
  if (parentElement.querySelector('.player')) return // the same sound, drawn by an earlier run
  const make = (kind, name, into, text = '') => {
    const element = document.createElement(kind)
    element.className = name
    element.textContent = text
    into.append(element)
    return element
  }
  const root = make('div', data.events.length ? 'player listed' : 'player', parentElement)
  const scene = make('div', 'scene', root)

  const row = make('div', 'row', scene)
  const heights = make('div', 'heights', row)
  for (const [khz, place] of data.kilohertz) {
    make('span', '', heights, khz).style.bottom = `${100 * place}%`
  }
  make('span', '', heights, 'kHz').style.top = '-0.6rem'
  const strip = make('div', 'strip', row)
  const wide = make('div', 'wide', strip)
  wide.style.width = `${PIXELS_PER_SECOND * data.seconds}px`
  const picture = make('img', '', wide)
  picture.alt = 'Spectrogram: time to the right, frequency upwards, brighter is louder'
  picture.src = `data:image/png;base64,${data.picture}`
  const clock = (seconds) =>
    `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`
  for (const second of data.ticks) {
    const tick = make('span', 'tick', wide, clock(data.start + second))
    tick.style.left = `${(100 * second) / data.seconds}%`
    if (second > 0.97 * data.seconds) tick.style.transform = 'translateX(-100%)'
  }
  const cursor = make('div', 'cursor', wide)

  const audio = make('audio', '', scene)
  audio.controls = true
  audio.src = `data:audio/mpeg;base64,${data.sound}`

  const list = data.events.length ? make('ol', 'events', root) : null
  const buttons = data.events.map((event) => {
    const button = make('button', '', make('li', '', list))
    make('span', 'when', button, event.when)
    make('span', 'label', button, event.label)
    make('span', 'share', button, event.share)
    button.onclick = () => play(event.onset - data.start)
    return button
  })

  const play = (seconds) => {
    audio.currentTime = Math.max(0, seconds)
    audio.play()
  }
  const follow = () => {
    const now = audio.currentTime
    const place = now / data.seconds
    cursor.style.left = `${100 * Math.min(place, 1)}%`
    const x = place * wide.clientWidth
    const [left, right] = [strip.scrollLeft, strip.scrollLeft + strip.clientWidth]
    if (!audio.paused && (x < left || x > right - 20)) strip.scrollLeft = x - 40
    data.events.forEach(({ onset, offset }, number) => {
      const time = now + data.start
      buttons[number].setAttribute('aria-current', onset <= time && time < offset)
    })
    if (!audio.paused) requestAnimationFrame(follow)
  }
  wide.onclick = (event) => {
    const { left, width } = wide.getBoundingClientRect()
    audio.currentTime = (data.seconds * (event.clientX - left)) / width
  }
  audio.onplay = () => {
    for (const other of document.querySelectorAll('audio, video')) other.pause()
    follow()
  }
  audio.onseeked = follow
  audio.onpause = follow
  follow()
  return () => audio.pause()
}
