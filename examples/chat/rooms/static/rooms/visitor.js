// What every page does about the visitor: a colour of their own, and the little form for the name.

export function hue(visitor) {
  let value = 0;
  for (const character of visitor) value = (value * 31 + character.charCodeAt(0)) % 360;
  return value;
}

for (const node of document.querySelectorAll("[data-avatar]")) node.style.setProperty("--hue", hue(node.dataset.avatar));

document.addEventListener("click", (event) => {
  const open = document.querySelector(".me[open]");
  if (open && !open.contains(event.target)) open.open = false;
});
