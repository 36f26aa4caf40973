// Lists what makes a page hard to use: it is evaluated in the page itself.
(code, dir) => {
  const wrong = [], all = s => [...document.querySelectorAll(s)];
  const name = e => e.outerHTML.slice(0, 120);
  const html = document.documentElement;
  if (html.lang !== code || html.dir !== dir) wrong.push(`the page is ${html.lang}, ${html.dir}`);
  if (all('h1').length !== 1) wrong.push(`there are ${all('h1').length} headings of the first level`);
  if (!document.title.trim()) wrong.push('there is no title');
  if (html.scrollWidth > innerWidth) wrong.push(`it is ${html.scrollWidth} wide, and the window ${innerWidth}`);
  for (const e of all('input:not([type=hidden]), select, textarea')) {
    if (!e.labels.length || !e.labels[0].textContent.trim()) wrong.push('no label: ' + name(e));
  }
  for (const e of all('a, button')) {
    if (!(e.textContent.trim() || e.getAttribute('aria-label'))) wrong.push('no words: ' + name(e));
    const box = e.getBoundingClientRect();
    if (e.tagName === 'BUTTON' && box.height > 0 && box.height < 24) wrong.push('too small to press: ' + name(e));
  }
  for (const e of all('img:not([alt])')) wrong.push('no text for: ' + name(e));
  for (const e of all('svg')) {
    if (!e.matches('[aria-hidden=true], [aria-label], [aria-labelledby]')) wrong.push('no text for: ' + name(e));
  }
  const ids = all('[id]').map(e => e.id);
  for (const id of new Set(ids.filter((x, i) => ids.indexOf(x) !== i))) wrong.push('twice the id ' + id);

  // Contrast, as WCAG 2 level AA wants it, of all words on a plain ground.
  const rgb = c => c.match(/[\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  for (const e of all('body *')) {
    const words = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!words || !e.checkVisibility() || e.closest('svg, .skip, .aside, :disabled')) continue;
    let ground = e, back;
    for (; ground; ground = ground.parentElement) {
      const style = getComputedStyle(ground);
      if (style.backgroundImage !== 'none') break;
      back = rgb(style.backgroundColor);
      if (back.length === 3 || back[3] === 1) break;
    }
    if (!ground || getComputedStyle(ground).backgroundImage !== 'none') continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const [a, b] = [light(rgb(style.color)), light(back)].sort((x, y) => y - x);
    const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${name(e)}`);
  }
  return wrong;
}
