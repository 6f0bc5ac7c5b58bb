// From seconds to pixels. Stretches in which no node ran (data.folds) are drawn as narrow as a fixed share of the rest.
const FOLD_SHARE = 0.025;

function axis(data, width) {
  const folds = data.folds;
  const folded = folds.reduce((sum, [start, end]) => sum + end - start, 0);
  const worked = Math.max(data.span - folded, 0.001);
  const gap = worked * FOLD_SHARE;
  const scale = width / (worked + gap * folds.length);
  function x(time) {
    let shown = time;
    for (const [start, end] of folds) {
      if (time >= end) shown -= end - start - gap;
      else if (time > start) shown -= (time - start) * (1 - gap / (end - start));
    }
    return Math.max(0, shown) * scale;
  }
  function ticks() {
    const step = niceStep(90 / scale);
    const found = [];
    for (let time = 0; time <= data.span && found.length < 4000; time += step) {
      const fold = folds.find(([start, end]) => time >= start && time < end);
      if (fold) time = Math.ceil(fold[1] / step) * step;
      if (time <= data.span) found.push({ time, label: x(time) < width - 40 ? tickLabel(time, step) : "" });
    }
    return found;
  }
  return { x, ticks };
}

function niceStep(least) {
  const minutes = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  if (least <= 30) {
    const power = 10 ** Math.floor(Math.log10(Math.max(least, 0.001)));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= least) * power;
    return step === 20 ? 30 : step === 50 ? 60 : step;
  }
  return minutes.find((step) => step >= least) ?? Math.ceil(least / 86400) * 86400;
}

function tickLabel(time, step) {
  const digits = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;
  if (time < 60) return `${time.toFixed(digits)} s`;
  const seconds = (time % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  const minutes = Math.floor(time / 60), hours = Math.floor(time / 3600);
  if (time < 3600) return step < 60 ? `${minutes}:${seconds} min` : `${minutes} min`;
  const clock = `${hours}:${String(minutes % 60).padStart(2, "0")}`;
  return step < 60 ? `${clock}:${seconds} h` : `${clock} h`;
}
