// All pages work without this. It quotes while the customer types, counts an
// offer's time down, looks again at a send on its way, and stops double clicks.
'use strict';

for (const form of document.querySelectorAll('form[data-live]')) {
  const place = document.querySelector(form.dataset.live);
  let timer, asked;
  const ask = async () => {
    if (!form.elements.amount.value.trim()) { place.replaceChildren(); return; }
    asked?.abort();
    asked = new AbortController();
    try {
      const answer = await fetch(form.action, {
        method: 'POST', body: new URLSearchParams(new FormData(form)), headers: { 'X-Part': 'quote' },
        redirect: 'error', signal: asked.signal,
      });
      if (answer.ok || answer.status === 422) place.innerHTML = await answer.text();
    } catch { /* a newer question, or no answer: the button asks again */ }
  };
  form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(ask, 350); });
  if (form.elements.amount.value) ask();
}

for (const left of document.querySelectorAll('[data-left]')) {
  const end = Date.parse(left.dataset.left);
  left.hidden = false;
  const tick = () => {
    const seconds = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    left.querySelector('b').textContent = Math.floor(seconds / 60) + ':' + String(seconds % 60).padStart(2, '0');
    if (seconds > 0) { setTimeout(tick, 1000); return; }
    document.querySelector('[data-expired]').hidden = false;
    left.parentElement.hidden = true;
  };
  tick();
}

if (document.querySelector('[data-refresh]')) setTimeout(() => location.reload(), 3000);

for (const form of document.forms) {
  // Only after the browser has read the form, or the pressed button's value is lost.
  form.addEventListener('submit', () => setTimeout(() => { for (const b of form.querySelectorAll('button')) b.disabled = true; }));
}
addEventListener('pageshow', () => { for (const b of document.querySelectorAll('button')) b.disabled = false; });
