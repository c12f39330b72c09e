"""Plain HTTP: the pages, uploads, pictures, and who answered."""

from uuid import UUID

from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from rooms.forms import NameForm, PictureForm, RoomForm
from rooms.identity import ensure_visitor, facts
from rooms.jobs import order_thumbnail
from rooms.models import Message, Picture, PictureFile, Presence, Room

BUSY = "The thumbnail workers are busy. The picture is there; ask for its thumbnail again in a moment."


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def room_list(request: HttpRequest) -> HttpResponse:
    ensure_visitor(request.session)
    form = RoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    alive = Presence.objects.alive().values("id")
    rooms = Room.objects.annotate(
        here=Count("presences__visitor", distinct=True, filter=Q(presences__in=alive)),
        last=Max("messages__created"),
    ).order_by("-here", "-last", "name")
    status = 400 if form.errors else 200
    return render(request, "rooms/room_list.html", {"rooms": rooms[:100], "form": form}, status=status)


@never_cache
@ensure_csrf_cookie
@require_GET
def room(request: HttpRequest, slug: str) -> HttpResponse:
    ensure_visitor(request.session)
    return render(request, "rooms/room.html", {"room": get_object_or_404(Room, slug=slug)})


@require_POST
def upload(request: HttpRequest, slug: str) -> HttpResponse:
    """Keep a picture, show it in the room, order its thumbnail. Scripts get JSON, forms a page."""
    ensure_visitor(request.session)
    room = get_object_or_404(Room, slug=slug)
    form = PictureForm(request.POST, request.FILES)
    wants_json = "application/json" in request.headers.get("Accept", "")
    if not form.is_valid():
        error = form.errors["picture"][0]
        if wants_json:
            return JsonResponse({"error": error}, status=400)
        return render(request, "rooms/room.html", {"room": room, "upload_error": error}, status=400)
    judged = form.cleaned_data["picture"]
    with transaction.atomic():
        picture = Picture.objects.create(room=room, width=judged.width, height=judged.height)
        picture.files.create(kind=PictureFile.ORIGINAL, content_type=judged.content_type, content=judged.content)
        author = {"visitor": request.session["visitor"], "author": request.session["name"]}
        message = Message.objects.create(room=room, picture=picture, **author)
    # Sent after the commit: the room and the worker read the rows.
    layer = get_channel_layer()
    async_to_sync(layer.group_send)(room.group, {"type": "chat.message", "message": message.as_json()})
    try:
        order_thumbnail(picture)
    except ChannelFull:
        if wants_json:
            return JsonResponse({"error": BUSY}, status=503)
    return JsonResponse({"picture": picture.as_json()}, status=201) if wants_json else redirect(room)


@require_POST
def again(request: HttpRequest, picture_id: UUID) -> HttpResponse:
    """Order a thumbnail once more, for a picture whose first order was lost with its worker."""
    try:
        order_thumbnail(get_object_or_404(Picture, id=picture_id))
    except ChannelFull:
        return JsonResponse({"error": BUSY}, status=503)
    return JsonResponse({}, status=202)


@require_GET
@cache_control(private=True, max_age=86400, immutable=True)
def picture(request: HttpRequest, picture_id: UUID, kind: str) -> HttpResponseBase:
    file = get_object_or_404(PictureFile, picture_id=picture_id, kind=kind)
    # Visitors made these bytes: the browser may show them as a picture and do nothing else with them.
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(bytes(file.content), content_type=file.content_type, headers=headers)


@require_POST
def rename(request: HttpRequest) -> HttpResponse:
    """Change the visitor's name and go back to the page that asked."""
    ensure_visitor(request.session)
    form = NameForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"error": form.errors["name"][0]}, status=400)
    request.session["name"] = form.cleaned_data["name"]
    Presence.objects.filter(visitor=request.session["visitor"]).update(name=request.session["name"])
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        target = reverse("rooms")
    return redirect(target)


@never_cache
@require_GET
def whoami(request: HttpRequest) -> JsonResponse:
    return JsonResponse(facts())
