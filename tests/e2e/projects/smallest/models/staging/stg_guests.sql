select * from {{ ref("kiosk_guests") }}
